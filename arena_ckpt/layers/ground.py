"""The names of other folders that a layer is written with, for the face of this one.

A stub of lazy names (``__init__.pyi``) can only name modules of its own folder, so what
stands further left on the road passes through here.
"""

from __future__ import annotations

from arena_ckpt.common.flops import Flops as Flops
from arena_ckpt.common.phases import Phase as Phase
from arena_ckpt.common.phases import TensorLifespan as TensorLifespan
from arena_ckpt.common.properties import BOOLEAN as BOOLEAN
from arena_ckpt.common.properties import COUNT as COUNT
from arena_ckpt.common.properties import COUNTS as COUNTS
from arena_ckpt.common.properties import FRACTION as FRACTION
from arena_ckpt.common.properties import NAME as NAME
from arena_ckpt.common.properties import NAMES as NAMES
from arena_ckpt.common.properties import NONNEGATIVE_REAL as NONNEGATIVE_REAL
from arena_ckpt.common.properties import NONNEGATIVE_REALS as NONNEGATIVE_REALS
from arena_ckpt.common.properties import POSITIVE_INT as POSITIVE_INT
from arena_ckpt.common.properties import POSITIVE_REAL as POSITIVE_REAL
from arena_ckpt.common.properties import POSITIVE_REALS as POSITIVE_REALS
from arena_ckpt.common.properties import REAL as REAL
from arena_ckpt.common.properties import SHAPE as SHAPE
from arena_ckpt.common.properties import Kind as Kind
from arena_ckpt.common.properties import Property as Property
from arena_ckpt.common.properties import choice as choice
from arena_ckpt.common.properties import whole as whole
from arena_ckpt.errors import InvalidParameterError as InvalidParameterError
from arena_ckpt.errors import KernelArgumentError as KernelArgumentError
from arena_ckpt.errors import KernelCompileError as KernelCompileError
from arena_ckpt.errors import KernelError as KernelError
from arena_ckpt.errors import KernelSignatureError as KernelSignatureError
from arena_ckpt.errors import LayerHookError as LayerHookError
from arena_ckpt.errors import LayerResultError as LayerResultError
from arena_ckpt.errors import OwnLayerError as OwnLayerError
from arena_ckpt.errors import RegionError as RegionError
from arena_ckpt.errors import ShapeMismatchError as ShapeMismatchError
from arena_ckpt.errors import TensorDtypeError as TensorDtypeError
from arena_ckpt.errors import UnknownPropertyError as UnknownPropertyError
from arena_ckpt.errors import UnknownRoleError as UnknownRoleError
from arena_ckpt.errors import UnknownTypeError as UnknownTypeError
from arena_ckpt.operations import families as families
from arena_ckpt.operations.array_types import Doubles as Doubles
from arena_ckpt.operations.array_types import Indexes as Indexes
from arena_ckpt.operations.array_types import Integers as Integers
from arena_ckpt.operations.array_types import Matrix as Matrix
from arena_ckpt.operations.array_types import Vector as Vector
from arena_ckpt.operations.regions import Region as Region

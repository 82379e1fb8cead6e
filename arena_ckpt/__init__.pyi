"""The public names, and where they come from; each is imported at its first use."""

from .allocation.allocator import allocate as allocate
from .allocation.layout import Layout as Layout
from .blocks import CheckpointBlock as CheckpointBlock
from .boards.table import load_board as load_board
from .data import load_csv as load_csv
from .data import load_digits as load_digits
from .data import load_idx as load_idx
from .data import load_npz as load_npz
from .dataset import Dataset as Dataset
from .errors import ArenaError as ArenaError
from .errors import CapacityError as CapacityError
from .errors import InvalidParameterError as InvalidParameterError
from .errors import ModelWarning as ModelWarning
from .errors import TimeLimitError as TimeLimitError
from .examples import load_example as load_example
from .frontends.ini import load_ini as load_ini
from .layers import create_layer as create_layer
from .layers import register_layer as register_layer
from .lifespan import Phase as Phase
from .lifespan import TensorLifespan as TensorLifespan
from .loading import load as load
from .model import Model as Model
from .optimizers import create_optimizer as create_optimizer
from .plan import MemoryPlan as MemoryPlan
from .report.ascii_map import plan_ascii as plan_ascii
from .report.export import export_plan as export_plan
from .report.html import plan_html as plan_html
from .report.picture import plan_png as plan_png
from .report.picture import plan_svg as plan_svg
from .schedules import create_schedule as create_schedule
from .timeline import ExecutionOrder as ExecutionOrder
from .verification.report import Verification as Verification
from .verification.report import verify as verify

__version__: str
__all__: list[str]

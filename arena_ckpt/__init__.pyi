"""The public names, and where they come from; each is imported at its first use."""

from .allocation.allocator import allocate as allocate
from .allocation.layout import Layout as Layout
from .boards.board_files import load_board as load_board
from .checkpoint.pareto_front import ParetoFront as ParetoFront
from .common.phases import Phase as Phase
from .common.phases import TensorLifespan as TensorLifespan
from .data.dataset import Dataset as Dataset
from .data.loaders import load_csv as load_csv
from .data.loaders import load_digits as load_digits
from .data.loaders import load_idx as load_idx
from .data.loaders import load_npz as load_npz
from .device.export_c import export_c as export_c
from .errors import ArenaError as ArenaError
from .errors import CapacityError as CapacityError
from .errors import InvalidParameterError as InvalidParameterError
from .errors import ModelWarning as ModelWarning
from .errors import TimeLimitError as TimeLimitError
from .examples import load_example as load_example
from .graph.blocks import CheckpointBlock as CheckpointBlock
from .importers.ini import load_ini as load_ini
from .importers.saved_model import load as load
from .layers import create_layer as create_layer
from .layers import register_layer as register_layer
from .model import Model as Model
from .optim.learning_rates import create_schedule as create_schedule
from .optim.optimizers import create_optimizer as create_optimizer
from .planning.plan import MemoryPlan as MemoryPlan
from .planning.timeline import ExecutionOrder as ExecutionOrder
from .report.ascii_map import plan_ascii as plan_ascii
from .report.export import export_plan as export_plan
from .report.front_picture import front_pdf as front_pdf
from .report.front_picture import front_png as front_png
from .report.front_picture import front_svg as front_svg
from .report.html import plan_html as plan_html
from .report.picture import plan_png as plan_png
from .report.picture import plan_svg as plan_svg
from .verification.verify import Verification as Verification
from .verification.verify import verify as verify

__version__: str
__all__: list[str]

from .golden_files import add_golden as add_golden
from .golden_files import assert_plan_matches as assert_plan_matches
from .golden_files import check_folder as check_folder
from .golden_files import plan_differences as plan_differences
from .golden_files import update_folder as update_folder
from .golden_files import write_golden as write_golden
from .variants import golden_variants as golden_variants

__all__: list[str]

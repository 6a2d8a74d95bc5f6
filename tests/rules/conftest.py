import sys
from pathlib import Path

# For `support`, which lies beside the folder of the rules' tests.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

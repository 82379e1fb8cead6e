"""``python -m arena_ckpt`` is the command ``arena-ckpt``."""

from arena_ckpt.cli import main

if __name__ == "__main__":
    main(prog_name="arena-ckpt")

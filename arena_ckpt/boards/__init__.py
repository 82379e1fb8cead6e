"""Boards: whether a memory plan fits in the flash and RAM of a board, and what would.

Flash has to hold the program and the initial weights, as constants. One contiguous
range of RAM has to hold the arena, which has everything that training touches: weights
too, because they change. Stack and heap stand in the same range, or in another where
the board says so.
"""

from arena_ckpt.boards.board import Board, BoardFit, Ram
from arena_ckpt.boards.board_files import board_names, load_board
from arena_ckpt.boards.firmware import FirmwareFit, check_firmware

__all__ = [
    "Board",
    "BoardFit",
    "FirmwareFit",
    "Ram",
    "board_names",
    "check_firmware",
    "load_board",
]

"""What kernels are called, what they take and how large their workspaces are.

Facts that layers, lowering and every engine share. Nothing here compiles anything.
"""

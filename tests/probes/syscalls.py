# Make each system call of the arguments, "NUMBER:ARGUMENT:ARGUMENT...", and print its errno, 0 when it succeeded.
import ctypes
import sys

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
for call in sys.argv[1:]:
    number, *arguments = [int(word) for word in call.split(":")]
    words = [ctypes.c_long(argument) for argument in (arguments + [-1] * 6)[:6]]
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *words)
    print(ctypes.get_errno() if result == -1 else 0)

# Requests that no program of libnbd's sends, sent through libnbd with its own checks off.
# Argument: the address of an export of 4 MiB with blocks of 512 and payloads of 1 MiB at most.
import sys

try:
    import nbd
except ImportError:
    sys.exit(77)

SIZE = 4 << 20
MIB = 1 << 20

client = nbd.NBD()
client.set_strict_mode(0)
client.add_meta_context("base:allocation")
client.connect_uri(sys.argv[1])


def fails(errno, call):
    try:
        call()
    except nbd.Error as error:
        assert error.errno == errno, "%s instead of %s: %s" % (error.errno, errno, error)
    else:
        raise AssertionError("no %s" % errno)
    assert client.aio_is_ready(), "the connection did not survive %s" % errno


fails("EINVAL", lambda: client.pread(512, SIZE))
fails("ENOSPC", lambda: client.pwrite(b"x" * 1024, SIZE - 512))
fails("ENOSPC", lambda: client.zero(1024, SIZE - 512))
fails("EINVAL", lambda: client.trim(1024, SIZE - 512))
fails("EINVAL", lambda: client.pread(511, 0))
fails("EINVAL", lambda: client.pwrite(b"x" * 512, 1))
fails("EINVAL", lambda: client.pwrite(b"x" * (2 * MIB), 0))
fails("EOVERFLOW", lambda: client.pread(2 * MIB, 0))
fails("EINVAL", lambda: client.pread(512, 0, 1 << 9))
fails("EINVAL", lambda: client.cache(512, 0))
fails("ENOTSUP", lambda: client.zero(512, 0, nbd.CMD_FLAG_FAST_ZERO))

extents = []
remember = lambda context, offset, entries, error: extents.append((context, offset, entries))
client.block_status(SIZE, 0, remember, nbd.CMD_FLAG_REQ_ONE)
client.block_status(2 * MIB, MIB, remember)
assert extents == [
    ("base:allocation", 0, [MIB, 0]),
    ("base:allocation", MIB, [MIB, 3, MIB, 0]),
], extents

client.pwrite(b"y" * 512, 0, nbd.CMD_FLAG_FUA)
assert client.pread(512, 0, nbd.CMD_FLAG_DF) == b"y" * 512
client.shutdown()

# A payload that is not worth draining ends the connection and no other.
client = nbd.NBD()
client.set_strict_mode(0)
client.connect_uri(sys.argv[1])
try:
    client.pwrite(b"z" * (33 * MIB), 0)
except nbd.Error:
    pass
else:
    raise AssertionError("33 MiB were taken")

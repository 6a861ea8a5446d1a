# dd: 256 MiB written and read with checksum, in blocks that do not fit chunks.
stream() { # deterministic bytes: a counter, hashed by nothing but cheap enough for 256 MiB
    python3 -c '
import sys
block = bytes((i * 7 + (i >> 8)) & 255 for i in range(1 << 20))
for n in range(256):
    sys.stdout.buffer.write(n.to_bytes(4, "little") + block[4:])'
}
stream | dd of=big bs=1M iflag=fullblock status=none
stat -c %s big
sha256sum big
dd if=big bs=300007 status=none | sha256sum
dd if=big of=copy bs=1M conv=fsync status=none
cmp big copy && echo same
dd if=/dev/zero of=copy bs=4096 seek=1000 count=100 conv=notrunc status=none
sha256sum copy
truncate -s 100M copy
sha256sum copy
rm big copy

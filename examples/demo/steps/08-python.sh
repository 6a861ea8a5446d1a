# python3: 2,000 files written, renamed and read back by 4 processes.
python3 - <<'PY'
import hashlib, multiprocessing, os

def worker(w):
    total = hashlib.sha256()
    os.makedirs(f"w{w}/done")
    for i in range(500):
        with open(f"w{w}/{i}.tmp", "w") as f:
            f.write(f"{w} {i}\n" * (i + 1))
        os.rename(f"w{w}/{i}.tmp", f"w{w}/done/{i}")
    for name in sorted(os.listdir(f"w{w}/done"), key=int):
        with open(f"w{w}/done/{name}", "rb") as f:
            total.update(f.read())
    return total.hexdigest()

with multiprocessing.get_context("fork").Pool(4) as pool:
    for digest in pool.map(worker, range(4)):
        print(digest)
print(sum(len(files) for _, _, files in os.walk(".")))
PY
find . -type f | wc -l

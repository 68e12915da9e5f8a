"""A build backend that needs no other package: it packs one module."""
import base64
import hashlib
import zipfile

NAME = "greeting-1.0-py3-none-any.whl"
INFO = "greeting-1.0.dist-info/"


def build_wheel(directory, config_settings=None, metadata_directory=None):
    files = {
        "greeting.py": 'def words():\n    return "hello"\n',
        INFO + "METADATA": "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
        INFO + "WHEEL": "Wheel-Version: 1.0\nGenerator: backend\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    with zipfile.ZipFile(directory + "/" + NAME, "w") as wheel:
        for name, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(text)}\n"
            wheel.writestr(name, text)
        wheel.writestr(INFO + "RECORD", record + INFO + "RECORD,,\n")
    return NAME

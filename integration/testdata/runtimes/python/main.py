import os
import sys

import greeting

print("python says", greeting.words(), sys.prefix, os.getuid())

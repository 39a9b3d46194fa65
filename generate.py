import sys

from minigpt_tf.__main__ import main

sys.exit(main(["generate", *sys.argv[1:]]))

import sys

from minigpt_tf.__main__ import main

sys.exit(main(["train", *sys.argv[1:]]))

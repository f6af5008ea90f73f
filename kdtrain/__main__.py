"""``python -m kdtrain``, which launchers of several processes can run: ``torchrun -m kdtrain student ...``."""

from kdtrain.cli import main

main()

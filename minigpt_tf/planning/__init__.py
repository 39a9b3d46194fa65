"""What a run or an answer takes, on this machine and others: memory, time, disk, energy, money."""

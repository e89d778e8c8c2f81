"""A stand-in for EC2, for tests: speaks the Query protocol, refuses what EC2 refuses, and gives real loop
devices for attached volumes. `python3 -m standin --help`; README.md tells the rest."""

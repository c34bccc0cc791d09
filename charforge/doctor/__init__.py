"""What works on this machine: facts are collected, then judged; every complaint comes with the line that mends it."""

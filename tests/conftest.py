"""What holds for every test: no time limits on examples, and an interrupt that interrupts."""

import signal

from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # how long an example takes depends on the machine
settings.load_profile("untimed")

# A shell starts background jobs with SIGINT ignored, which processes inherit: those of the tests would ignore it, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

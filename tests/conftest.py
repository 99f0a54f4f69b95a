import signal

# A process that is started in the background hands SIGINT down as ignored, to pytest and to all
# that the tests start. Tests about Ctrl-C need it as a terminal gives it.
signal.signal(signal.SIGINT, signal.default_int_handler)

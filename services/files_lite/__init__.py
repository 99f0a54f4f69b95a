"""People's window on the share where Nextcloud is too much: copyparty, with the lab's accounts."""

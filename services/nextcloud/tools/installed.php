<?php
// Does this config.php belong to a finished installation? Exits 0 or 1.
$CONFIG = [];
if (is_file($argv[1])) {
    include $argv[1];
}
exit($CONFIG['installed'] ?? false ? 0 : 1);

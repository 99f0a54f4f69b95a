<?php
// Install Nextcloud into an empty database, with no password on any command line.
//
// Ended halfway (power cut, `docker kill`), the next start does it again: what the broken attempt
// left in the database is dropped, but only when a note says that it is from such an attempt.

const ROOM = '/var/www/html';
const NOTE = ROOM . '/data/.labloop-installing';

function stop(string $found, string $hint): never {
    fwrite(STDERR, "$found\nhint: $hint\n");
    exit(1);
}

function needed(string $name): string {
    $value = (string)getenv($name);
    if ($value === '') {
        stop("$name is not set", 'compose.yaml sets it; start Nextcloud with `labloop up`');
    }
    return $value;
}

function secret(string $file): string {
    $value = trim((string)@file_get_contents($file));
    if ($value === '') {
        $hint = 'uid 33 must be able to read it; `labloop up` makes it';
        stop("$file cannot be read or is empty", $hint);
    }
    return $value;
}

$host = needed('POSTGRES_HOST');
$database = needed('POSTGRES_DB');
$user = needed('POSTGRES_USER');
$password = secret(needed('POSTGRES_PASSWORD_FILE'));
$adminPassword = secret('/run/secrets/files-admin-password');

try {
    $pdo = new PDO("pgsql:host=$host;dbname=$database;connect_timeout=10", $user, $password);
    $ours = 'SELECT count(*) FROM pg_tables WHERE tableowner = CURRENT_USER';
    $tables = (int)$pdo->query($ours)->fetchColumn();
    if ($tables > 0 && !is_file(NOTE)) {
        stop(
            "database $database holds $tables tables, but config/config.php knows no installation",
            'bring back the volume of Nextcloud from the backup, or empty that database by hand',
        );
    }
    touch(NOTE) || stop('cannot write ' . NOTE, 'the volume of Nextcloud must belong to uid 33');
    if ($tables > 0) {
        fwrite(STDERR, "an installation had ended halfway and is begun again\n");
        $pdo->exec('DROP OWNED BY CURRENT_USER CASCADE');
        @unlink(ROOM . '/config/config.php');
    }
    // `DROP OWNED` and hardened servers take the right to make tables; the owner may give it back.
    $pdo->exec('GRANT USAGE, CREATE ON SCHEMA public TO CURRENT_USER');
} catch (PDOException $error) {
    $hint = 'is it healthy? `labloop status` tells';
    stop("database $database on $host: " . $error->getMessage(), $hint);
}
$pdo = null;
touch(ROOM . '/config/CAN_INSTALL');

register_shutdown_function(static function (): void {
    $CONFIG = [];
    @include ROOM . '/config/config.php';
    if ($CONFIG['installed'] ?? false) {
        @unlink(NOTE);
    }
});
// The words that a shell would give, where `ps` does not see them.
$argv = $_SERVER['argv'] = [
    'occ', 'maintenance:install', '--no-interaction',
    '--admin-user', getenv('NEXTCLOUD_ADMIN') ?: 'admin', '--admin-pass', $adminPassword,
    '--database', 'pgsql', '--database-host', $host, '--database-name', $database,
    '--database-user', $user, '--database-pass', $password,
];
$argc = $_SERVER['argc'] = count($argv);
chdir(ROOM);
require ROOM . '/console.php';

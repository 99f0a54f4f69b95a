<?php
// Read `occ files_external:list --output=json`; write the number of each mount of that name.
foreach (json_decode(stream_get_contents(STDIN), true) ?: [] as $mount) {
    if (($mount['mount_point'] ?? '') === ($argv[1] ?? '')) {
        echo $mount['mount_id'], "\n";
    }
}

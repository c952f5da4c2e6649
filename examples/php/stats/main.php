<?php
declare(strict_types=1);

require __DIR__ . "/lib/stats.php";

$summary = Stats\summarise(array_map("floatval", file("php://stdin", FILE_IGNORE_NEW_LINES)));
echo $summary;
file_put_contents("summary.txt", $summary);

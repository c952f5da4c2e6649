let rec read values =
  match input_line stdin with
  | line -> read (float_of_string line :: values)
  | exception End_of_file -> List.rev values

let () =
  let summary = Stats.summarise (read []) in
  print_string summary;
  Out_channel.with_open_text "summary.txt" (fun file -> output_string file summary)

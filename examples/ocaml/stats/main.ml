let rec read values =
  match input_line stdin with
  | line -> read (float_of_string line :: values)
  | exception End_of_file -> List.rev values

let () = print_string (Stats.summarise (read []))

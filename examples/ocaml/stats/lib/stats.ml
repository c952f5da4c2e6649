let summarise values =
  let count = List.length values in
  let sum = List.fold_left ( +. ) 0. values in
  Printf.sprintf "count %d\nsum %.0f\nmean %.2f\n" count sum (sum /. float_of_int count)

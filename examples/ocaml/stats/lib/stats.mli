(** What a list of numbers is like. *)
val summarise : float list -> string

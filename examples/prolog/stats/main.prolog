:- use_module(stats).
:- initialization(main, main).

main(_) :-
    read_values(Values),
    summarise(Values).

read_values(Values) :-
    read_line_to_string(user_input, Line),
    (   Line == end_of_file
    ->  Values = []
    ;   number_string(Value, Line),
        Values = [Value|Rest],
        read_values(Rest)
    ).

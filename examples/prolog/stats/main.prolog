:- use_module(stats).
:- initialization(main, main).

main(_) :-
    read_values(Values),
    with_output_to(string(Summary), summarise(Values)),
    write(Summary),
    setup_call_cleanup(open('summary.txt', write, File), write(File, Summary), close(File)).

read_values(Values) :-
    read_line_to_string(user_input, Line),
    (   Line == end_of_file
    ->  Values = []
    ;   number_string(Value, Line),
        Values = [Value|Rest],
        read_values(Rest)
    ).

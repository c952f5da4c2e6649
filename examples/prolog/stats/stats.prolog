:- module(stats, [summarise/1]).

summarise(Values) :-
    length(Values, Count),
    sum_list(Values, Sum),
    Mean is Sum / Count,
    format("count ~d~nsum ~d~nmean ~2f~n", [Count, Sum, Mean]).

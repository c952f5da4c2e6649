program Numbers;

{$mode objfpc}

uses Stats;

var
  Values: TValues = nil;
begin
  while not Eof do
  begin
    SetLength(Values, Length(Values) + 1);
    ReadLn(Values[High(Values)]);
  end;
  Write(Summarise(Values));
end.

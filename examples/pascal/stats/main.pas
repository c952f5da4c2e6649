program Numbers;

{$mode objfpc}

uses Stats;

var
  Values: TValues = nil;
  Report: Text;
begin
  while not Eof do
  begin
    SetLength(Values, Length(Values) + 1);
    ReadLn(Values[High(Values)]);
  end;
  Write(Summarise(Values));
  Assign(Report, 'summary.txt');
  Rewrite(Report);
  Write(Report, Summarise(Values));
  Close(Report);
end.

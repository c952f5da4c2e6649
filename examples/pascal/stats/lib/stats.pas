unit Stats;

{$mode objfpc}

interface

type
  TValues = array of Double;

function Summarise(const Values: TValues): string;

implementation

uses SysUtils;

function Summarise(const Values: TValues): string;
var
  Sum, Value: Double;
begin
  Sum := 0;
  for Value in Values do
    Sum := Sum + Value;
  Result := Format('count %d'#10'sum %.0f'#10'mean %.2f'#10, [Length(Values), Sum, Sum / Length(Values)]);
end;

end.

Code.require_file("lib/stats.ex")

:stdio
|> IO.stream(:line)
|> Enum.map(&(&1 |> String.trim() |> String.to_integer()))
|> Stats.summarise()
|> tap(&IO.write/1)
|> then(&File.write!("summary.txt", &1))

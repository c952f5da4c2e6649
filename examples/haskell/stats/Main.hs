module Main (main) where

import Stats (summarise)

main :: IO ()
main = do
  summary <- summarise . map read . lines <$> getContents
  putStr summary
  writeFile "summary.txt" summary

module Main (main) where

import Stats (summarise)

main :: IO ()
main = interact (summarise . map read . lines)

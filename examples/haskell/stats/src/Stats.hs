module Stats (summarise) where

import Text.Printf (printf)

summarise :: [Double] -> String
summarise values = printf "count %d\nsum %.0f\nmean %.2f\n" (length values) total (total / fromIntegral (length values))
  where
    total = sum values

# Read by R before a script (R_PROFILE_USER), for scripts that run with "script": true, "call" or "capture_plots": the names
# of the contract, a call when the script is through, plots as files. What is wanted stands in the file that EXECBOX_INPUT
# names. The names are attached, not assigned, so that rm(list = ls()) leaves them alone; the packages that a script finds
# attached are not here yet.
local({
  # Not for the R processes that the script starts.
  Sys.unsetenv("R_PROFILE_USER")
  input <- jsonlite::fromJSON(Sys.getenv("EXECBOX_INPUT"))
  names <- new.env()
  workspace <- input$workspace
  uploaded_files <- as.character(unlist(input$uploaded_files))
  max_key <- 256

  fail <- function(...) stop(paste0(...), call. = FALSE)

  # The same in types that JSON has: names are kept, times are text.
  plain <- function(value, where, depth = 0) {
    if (depth > 100) fail(where, " is nested deeper than 100")
    inner <- function(value, key) plain(value, paste0(where, "[[", deparse(key), "]]"), depth + 1)
    if (is.null(value)) return(NULL)
    if (inherits(value, c("POSIXt", "Date"))) {
      utc <- if (inherits(value, "Date")) format(value, "%Y-%m-%d") else format(value, "%Y-%m-%dT%H:%M:%SZ", tz = "UTC")
      return(utc)
    }
    if (is.factor(value)) value <- stats::setNames(as.character(value), names(value))
    if (inherits(value, "difftime")) value <- as.numeric(value, units = "secs")
    if (is.data.frame(value)) {
      value[] <- lapply(value, function(column) plain(column, where, depth + 1))
      return(value)
    }
    if (is.list(value) && !isS4(value)) {
      keys <- if (is.null(names(value))) seq_along(value) else names(value)
      # Not by lapply: a NULL among them stays.
      for (at in seq_along(value)) value[at] <- list(inner(value[[at]], keys[[at]]))
      return(unclass(value))
    }
    if (!is.atomic(value) || is.complex(value) || is.raw(value) || isS4(value)) {
      fail(where, " is of type ", class(value)[[1]], ", which JSON can't hold")
    }
    if (length(dim(value)) == 2 && !is.null(rownames(value)) && !is.null(colnames(value))) {
      rows <- lapply(seq_len(nrow(value)), function(row) as.list(unclass(value)[row, ]))
      rows <- lapply(rows, stats::setNames, colnames(value))
      return(stats::setNames(rows, rownames(value)))
    }
    if (length(dim(value)) == 1) value <- stats::setNames(as.vector(value), names(value))
    if (!is.null(names(value))) return(as.list(unclass(value)))
    attributes(value) <- attributes(value)[intersect(names(attributes(value)), "dim")]
    value
  }

  encode <- function(value, where) {
    text <- jsonlite::toJSON(
      plain(value, where), auto_unbox = TRUE, digits = NA, na = "null", null = "null", force = FALSE
    )
    enc2utf8(as.character(text))
  }

  hand_back <- function(text) {
    channel <- file(Sys.getenv("EXECBOX_RESULTS"), open = "ab", raw = TRUE)
    on.exit(close(channel))
    writeLines(text, channel, useBytes = TRUE)
  }

  is_text <- function(value) is.character(value) && length(value) == 1 && !is.na(value)

  path_of <- function(name) if (startsWith(name, "/")) name else file.path(workspace, name)

  existing <- function(name, caller) {
    if (!is_text(name)) fail(caller, ": the name must be one string")
    path <- path_of(name)
    if (!file.exists(path) || dir.exists(path)) {
      there <- if (length(uploaded_files)) paste(uploaded_files, collapse = ", ") else "none"
      fail(caller, ": there is no file '", name, "'; uploaded files: ", there)
    }
    path
  }

  ending_of <- function(path) tolower(sub("^.*\\.([^./]*)$|^.*$", "\\1", path))

  # Puts a value into the results. The last under a key wins.
  names$save_result <- function(key, value) {
    if (!is_text(key)) fail("save_result: the key must be one string, not of type ", class(key)[[1]])
    if (!nzchar(key) || nchar(key) > max_key) fail("save_result: a key has 1 to ", max_key, " characters")
    text <- encode(value, paste0("save_result: the value of '", key, "'"))
    hand_back(paste0('{"save":{"key":', encode(key, "the key"), ',"value":', text, "}}"))
    invisible(value)
  }

  # The content of a file of the project by its ending: a data frame for tables, what a JSON file holds, what was saved as
  # RDS; else its text as one string, or its bytes where they are no text.
  names$load_file <- function(name) {
    path <- existing(name, "load_file")
    needs <- function(package) {
      if (!requireNamespace(package, quietly = TRUE)) fail("load_file: '", name, "' needs the package ", package, ", which is not here")
    }
    switch(ending_of(path),
      csv = return(utils::read.csv(path)),
      tsv = , tab = return(utils::read.delim(path)),
      json = return(jsonlite::fromJSON(path)),
      jsonl = , ndjson = return(jsonlite::stream_in(file(path), verbose = FALSE)),
      rds = return(readRDS(path)),
      parquet = { needs("arrow"); return(as.data.frame(arrow::read_parquet(path))) },
      xlsx = , xls = { needs("readxl"); return(as.data.frame(readxl::read_excel(path))) }
    )
    bytes <- readBin(path, "raw", file.size(path))
    if (any(bytes == as.raw(0))) return(bytes)
    text <- rawToChar(bytes)
    Encoding(text) <- "UTF-8"
    if (validUTF8(text)) text else bytes
  }

  # A CSV file as a data frame. Arguments are those of read.csv.
  names$load_csv_file <- function(name, ...) utils::read.csv(existing(name, "load_csv_file"), ...)

  # Writes a file that comes back as an artifact: text, bytes, a data frame, or for .json any value that JSON can hold.
  names$save_file <- function(name, content) {
    if (!is_text(name)) fail("save_file: the name must be one string")
    path <- path_of(name)
    dir.create(dirname(path), recursive = TRUE, showWarnings = FALSE)
    ending <- ending_of(path)
    if (is.raw(content)) {
      writeBin(content, path)
    } else if (is.data.frame(content) && ending %in% c("csv", "tsv")) {
      utils::write.table(
        content, path, sep = if (ending == "csv") "," else "\t", row.names = FALSE, qmethod = "double"
      )
    } else if (ending == "rds") {
      saveRDS(content, path)
    } else if (is.character(content)) {
      writeLines(enc2utf8(content), path, useBytes = TRUE)
    } else if (ending == "json") {
      writeLines(encode(content, paste0("save_file: the content of '", name, "'")), path, useBytes = TRUE)
    } else {
      fail("save_file: the content of '", name, "' must be text or bytes, not of type ", class(content)[[1]])
    }
    invisible(path)
  }

  names$workspace <- workspace
  names$uploaded_files <- uploaded_files
  names$job_id <- Sys.getenv("EXECBOX_JOB_ID")
  names$parameters <- if (is.null(input$parameters)) list() else input$parameters
  assign("input_data", input$input_data, envir = names)
  if (isTRUE(input$script)) attach(names, name = "execbox", warn.conflicts = FALSE)

  if (!is.null(input$call)) {
    call_it <- function(name) {
      here <- globalenv()
      own <- function(key) is.function(get(key, envir = here))
      if (!exists(name, envir = here, inherits = FALSE)) {
        there <- Filter(own, ls(here))
        there <- if (length(there)) paste0("it has ", paste0("`", there, "`", collapse = ", ")) else "it has no function at all"
        fail("call: ", input$entrypoint, " has no function `", name, "`; ", there)
      }
      if (!own(name)) {
        kind <- class(get(name, envir = here))[[1]]
        fail("call: `", name, "` in ", input$entrypoint, " is no function, but of type ", kind)
      }
      encode(do.call(name, list(), envir = here), paste0("call: what `", name, "` returned"))
    }
    # R runs it when the script has come to its end, and not after an error.
    .Last <- function() {
      text <- tryCatch(call_it(input$call), error = function(error) {
        from <- conditionCall(error)
        from <- if (is.null(from)) "Error: " else paste0("Error in ", paste(deparse(from), collapse = " "), " : ")
        cat(from, conditionMessage(error), "\n", "Execution halted\n", sep = "", file = stderr())
        quit("no", status = 1, runLast = FALSE)
      })
      hand_back(paste0('{"return_value":', text, "}"))
    }
    attach(list(.Last = .Last), name = "execbox_call", warn.conflicts = FALSE)
  }

  if (isTRUE(input$capture_plots)) {
    folder <- file.path(workspace, ".execbox", "plots")
    opened <- 0
    options(device = function(...) {
      dir.create(folder, showWarnings = FALSE)
      opened <<- opened + 1
      grDevices::png(file.path(folder, sprintf("%04d_%%04d.png", opened)), width = 800, height = 600, res = 96)
    })
    # Also after an error; and never over a file that is there.
    reg.finalizer(names, onexit = TRUE, function(names) {
      if (opened > 0) grDevices::graphics.off()
      at <- 0
      for (plot in sort(list.files(folder, full.names = TRUE))) {
        repeat {
          at <- at + 1
          target <- file.path(workspace, sprintf("plot_%d.png", at))
          if (!file.exists(target)) break
        }
        file.rename(plot, target)
      }
    })
    options(execbox.keep = names)
  }
})

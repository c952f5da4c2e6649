# Installs what the file DESCRIPTION asks for, out of Debian's packages of R, into the folder where it is started.
#
# apt finds, checks and downloads them, without rights and with a state of its own. They are unpacked, no more: none of their
# scripts runs, and nothing that the image has is replaced.

state <- file.path(getwd(), ".execbox")
# Where the folder is for programs.
place <- "/deps"

fail <- function(...) {
  message(...)
  quit("no", status = 1)
}

# What a program writes to standard output, in lines.
lines_of <- function(program, ...) {
  lines <- suppressWarnings(system2(program, shQuote(c(...)), stdout = TRUE))
  if (!is.null(attr(lines, "status"))) fail(program, " ended with exit code ", attr(lines, "status"))
  lines
}

# What it writes goes where our own sentences go, so that they stay in order.
run <- function(program, ...) system2(program, c(shQuote(c(...)), "1>&2")) == 0

# The needs: names, and for each the bounds of its version. The file is execbox's own writing.
read_needs <- function() {
  field <- read.dcf("DESCRIPTION", fields = "Imports")[[1]]
  parts <- regmatches(field, gregexec("([A-Za-z0-9.]+)(?: \\(([<>=!]+) ([0-9.]+)\\))?", field, perl = TRUE))[[1]]
  data.frame(name = parts[2, ], operator = parts[3, ], version = parts[4, ])
}

# Settings of apt: only what is said here differs from the image's.
set_up_apt <- function() {
  for (folder in c("apt/lists/partial", "apt/archives/partial")) {
    dir.create(file.path(state, folder), recursive = TRUE, showWarnings = FALSE)
  }
  settings <- c(
    sprintf('Dir::State "%s/apt"; Dir::Cache "%s/apt"; Dir::Log "%s/apt";', state, state, state),
    'Dir::State::status "/var/lib/dpkg/status";',
    # The lock of the image's packages is not ours, and the rest is nobody else's.
    'Debug::NoLocking "true";',
    'Acquire::Languages "none"; Acquire::Retries "3"; Acquire::http::Timeout "30"; Acquire::https::Timeout "30";',
    'APT::Install-Recommends "false"; APT::Sandbox::User "";'
  )
  certificates <- Sys.getenv("EXECBOX_CA")
  if (nzchar(certificates)) settings <- c(settings, sprintf('Acquire::https::CaInfo "%s";', certificates))
  mirror <- sub("/$", "", Sys.getenv("EXECBOX_DEBIAN_MIRROR"))
  if (nzchar(mirror)) {
    settings <- c(settings, sprintf('Dir::Etc::SourceList "%s/sources.list"; Dir::Etc::SourceParts "-";', state))
  }
  writeLines(settings, file.path(state, "apt.conf"))
  Sys.setenv(APT_CONFIG = file.path(state, "apt.conf"), HOME = state, TMPDIR = state)
  mirror
}

# Signatures are checked, by the keys that the image has.
update_lists <- function(mirror) {
  update <- function() run("apt-get", "update", "-q", "--error-on=any")
  if (nzchar(mirror)) {
    suite <- sub("^VERSION_CODENAME=", "", grep("^VERSION_CODENAME=", readLines("/etc/os-release"), value = TRUE))
    keyring <- Sys.glob("/usr/share/keyrings/debian-archive-keyring.*")[[1]]
    source <- function(url, suite) sprintf("deb [signed-by=%s] %s %s main", keyring, url, suite)
    plain <- source(mirror, c(suite, paste0(suite, "-updates")))
    secure <- source(paste0(mirror, "-security"), paste0(suite, "-security"))
    writeLines(c(plain, secure), file.path(state, "sources.list"))
    # Most mirrors keep security updates beside the archive, under this name; not all have them.
    if (update()) return()
    message("the mirror has no security updates beside it; going on without them")
    writeLines(plain, file.path(state, "sources.list"))
  }
  if (!update()) fail("the lists of Debian's packages could not be fetched")
}

# Debian's names for R's packages, which it writes in lower case.
debian_names <- function(names) {
  known <- sub(" - .*$", "", lines_of("apt-cache", "search", "--names-only", "^r-(cran|bioc)-"))
  plain <- sub("^r-(cran|bioc)-", "", known)
  found <- known[match(tolower(names), plain)]
  unknown <- names[is.na(found)]
  if (length(unknown)) {
    near <- lapply(tolower(unknown), function(name) {
      distance <- drop(utils::adist(name, plain))
      plain[order(distance)][sort(distance) <= 2]
    })
    near <- vapply(near, function(names) paste(utils::head(unique(names), 3), collapse = ", "), "")
    hints <- ifelse(nzchar(near), paste0(" (near: ", near, ")"), "")
    fail("Debian has no package of R named ", paste0("`", unknown, "`", hints, collapse = " and "))
  }
  found
}

# Downloads packages with all they need that the image has not, and unpacks them.
install <- function(packages) {
  message("fetching, with what they need: ", paste(packages, collapse = " "))
  if (!run("apt-get", "install", "-qq", "--assume-yes", "--download-only", packages)) {
    fail("Debian's packages could not be fetched")
  }
  here <- lines_of("dpkg-query", "--show", "--showformat=${Package}\n")
  root <- file.path(state, "root")
  names <- character()
  records <- readLines("/var/lib/dpkg/status")
  for (archive in Sys.glob(file.path(state, "apt/archives/*.deb"))) {
    name <- lines_of("dpkg-deb", "--field", archive, "Package")
    if (!name %in% here) {
      if (!run("dpkg-deb", "--extract", archive, root)) fail(name, " could not be unpacked")
      names <- c(names, name)
      records <- c(records, "", "Status: install ok installed", lines_of("dpkg-deb", "--field", archive))
    }
    unlink(archive)
  }
  unused <- c("doc", "doc-base", "man", "info", "locale", "lintian", "bug")
  unlink(file.path(root, "usr/share", unused), recursive = TRUE)
  for (folder in intersect(c("usr", "etc"), list.files(root))) {
    if (!file.rename(file.path(root, folder), folder)) fail("there is a folder ", folder, " already")
  }
  libraries <- basename(Sys.glob("usr/lib/*-linux-gnu*"))
  if (length(libraries)) file.symlink(file.path("usr/lib", libraries[[1]]), "lib")
  if (file.exists("usr/bin/pandoc")) {
    dir.create("bin")
    told <- sprintf('exec %s/usr/bin/pandoc --data-dir %s/usr/share/pandoc/data "$@"', place, place)
    writeLines(c("#!/bin/sh", "# pandoc, told where its data is.", told), "bin/pandoc")
    Sys.chmod("bin/pandoc", "0755")
  }
  # Some of Debian's packages ask dpkg for the versions of others.
  dir.create("var/lib/dpkg/info", recursive = TRUE)
  dir.create("var/lib/dpkg/updates")
  writeLines(c(records, ""), "var/lib/dpkg/status")
  keep_links(intersect(c("usr", "etc"), list.files()))
  names
}

# Links that lead nowhere from the folder's new place: to another of the files beside them, or to one of the image's.
keep_links <- function(folders) {
  relink <- function(link, target) file.remove(link) && file.symlink(target, link)
  for (link in lines_of("find", folders, "-type", "l")) {
    target <- Sys.readlink(link)
    if (!startsWith(target, "/")) target <- file.path("", dirname(link), target)
    repeat {
      shorter <- sub("/[^/]+/\\.\\./", "/", sub("/\\./", "/", target))
      if (shorter == target) break
      target <- shorter
    }
    beside <- sub("^/", "", target)
    is_beside <- file.exists(beside) || nzchar(Sys.readlink(beside))
    if (is_beside && startsWith(Sys.readlink(link), "/")) {
      relink(link, paste0(place, target))
    } else if (!is_beside && file.exists(target)) {
      relink(link, target)
    }
  }
}

# Says what is there, or what is not as it was asked for.
check <- function(needs, libraries) {
  version_of <- function(name) {
    if (name == "R") return(as.character(getRversion()))
    folder <- find.package(name, lib.loc = libraries, quiet = TRUE)
    if (length(folder)) read.dcf(file.path(folder[[1]], "DESCRIPTION"), fields = "Version")[[1]]
  }
  for (at in seq_len(nrow(needs))) {
    need <- needs[at, ]
    version <- version_of(need$name)
    if (is.null(version)) {
      there <- list.files(libraries)
      other <- there[tolower(there) == tolower(need$name)]
      fail("there is no package `", need$name, "`", if (length(other)) paste0("; it is called `", other[[1]], "`"))
    }
    met <- !nzchar(need$operator) || get(need$operator)(numeric_version(version), numeric_version(need$version))
    if (!met) {
      fail("`", need$name, " (", need$operator, " ", need$version, ")` is not to be had: Debian has ", version)
    }
    message(need$name, " ", version)
  }
}

needs <- read_needs()
image <- .libPaths()
missing <- setdiff(needs$name, c("R", list.files(image)))
if (length(missing)) {
  update_lists(set_up_apt())
  installed <- install(unique(debian_names(missing)))
  message("unpacked ", paste(installed, collapse = " "))
}
check(needs, c("usr/lib/R/site-library", image))
unlink(file.path(state, c("apt", "apt.conf", "root", "sources.list")), recursive = TRUE)

# The image that installs packages: the runtime's own, and what fetches those of Debian. Programs never run in it.
ARG EXECBOX_BASE
FROM ${EXECBOX_BASE}
COPY install /usr/lib/execbox/

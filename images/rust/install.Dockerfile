# The image that fetches crates: the runtime's own, and curl. Programs never run in it.
ARG EXECBOX_BASE
FROM ${EXECBOX_BASE}
ARG EXECBOX_DEBIAN_MIRROR
COPY .execbox execbox-ca.crt /tmp/.execbox/
COPY install /usr/lib/execbox/
RUN sh /tmp/.execbox/apt-install ca-certificates curl \
    && sh /tmp/.execbox/seal

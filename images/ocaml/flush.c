/* What the standard library of OCaml still holds of standard output; see flush.c of the C image. */
#define CAML_INTERNALS
#include <unistd.h>
#include <caml/mlvalues.h>
#include <caml/io.h>

void execbox_flush(void)
{
    for (struct channel *channel = caml_all_opened_channels; channel; channel = channel->next) {
        /* One that is read has an end of what was read. */
        if (channel->fd != STDOUT_FILENO || channel->max)
            continue;
        const char *at = channel->buff;
        ssize_t count;
        while (at < channel->curr && (count = write(channel->fd, at, channel->curr - at)) > 0)
            at += count;
    }
}

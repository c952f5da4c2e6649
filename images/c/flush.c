/* Linked into compiled programs: what they wrote and their libraries still hold comes out when they crash, and when the
 * runner is about to kill them, which it tells by a signal that nobody else uses. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* src/runner/last_words.rs has the same number, and finds by its handler whom to tell. */
#define LAST_WORDS 59
/* Bytes of stack for a program that crashed because it had none left. */
#define STACK (64 << 10)

/* What libraries of other languages have; null where a program is without them. */
extern char _ZSt4cout[] __attribute__((weak));
extern void *_ZNSo5flushEv(void *) __attribute__((weak));
extern void _gfortran_flush_i4(int *) __attribute__((weak));
extern void __real__gfortran_set_options(int, int *) __attribute__((weak));
extern int hs_main() __attribute__((weak));
extern void execbox_flush(void) __attribute__((weak));

static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS, SIGXCPU};
enum { CRASHES = sizeof crashes / sizeof *crashes };
static struct sigaction before[CRASHES];
static char stack[STACK];

/* For a stream whose lock somebody else has. */
static void write_out(FILE *file)
{
    const char *at = file->_IO_write_base;
    ssize_t count;
    while (at < file->_IO_write_ptr && (count = write(fileno_unlocked(file), at, file->_IO_write_ptr - at)) > 0)
        at += count;
}

static void flush(void)
{
    if (ftrylockfile(stdout)) {
        write_out(stdout);
    } else {
        if (_ZSt4cout && _ZNSo5flushEv)
            _ZNSo5flushEv(_ZSt4cout);
        fflush_unlocked(stdout);
        funlockfile(stdout);
    }
    if (execbox_flush)
        execbox_flush();
    if (_gfortran_flush_i4)
        _gfortran_flush_i4(NULL);
}

static volatile int crash;

static void die(int unused)
{
    sigset_t set;
    (void)unused;
    sigemptyset(&set);
    sigaddset(&set, crash);
    signal(crash, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    raise(crash);
}

static void on_crash(int number)
{
    for (int i = 0; i < CRASHES; i++)
        sigaction(crashes[i], &before[i], NULL);
    /* A library that crashed with a lock of its own keeps nobody waiting. */
    crash = number;
    signal(SIGALRM, die);
    alarm(1);
    flush();
    alarm(0);
    /* It crashes again as soon as this returns, but as it would have without us; what was sent is sent again. */
    raise(number);
}

static void on_last_words(int unused)
{
    (void)unused;
    if (hs_main) {
        /* Its own way to end, with all that belongs to it. */
        kill(getpid(), SIGINT);
        return;
    }
    flush();
    kill(getpid(), SIGKILL);
}

static void catch(int number, void (*handler)(int), struct sigaction *old)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_flags = SA_ONSTACK | SA_RESTART;
    action.sa_handler = handler;
    sigaction(number, &action, old);
}

static void catch_crashes(void)
{
    const stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&own, NULL);
    for (int i = 0; i < CRASHES; i++)
        catch(crashes[i], on_crash, &before[i]);
}

__attribute__((constructor)) static void start(void)
{
    catch(LAST_WORDS, on_last_words, NULL);
    /* These have their own handlers of crashes, or set them when they start. */
    if (!hs_main && !execbox_flush && !__real__gfortran_set_options)
        catch_crashes();
}

/* gfortran's start, by the linker's --wrap: its handlers, which show where the crash was, come after ours. */
void __wrap__gfortran_set_options(int count, int *options)
{
    __real__gfortran_set_options(count, options);
    catch_crashes();
}

/* The launcher: what init executes. It makes the tree the root directory, starts the stage under
 * its eyes, and seals and goes down by itself if the stage dies.
 *
 * Static, so that it starts on any root: one with an older or newer glibc, with musl, or with no
 * libc at all. It is small, since it is the part of PID 1 that must not fail. */

#ifndef FINALSTAGE_LAUNCHER_H
#define FINALSTAGE_LAUNCHER_H

#define STAGE "/usr/lib/finalstage/stage"
#define STAGED "/run/initramfs/shutdown"
#define OLD_ROOT "oldroot"

/* Say one line on the console; what it does not take soon is lost. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Go to the directory that holds the tree; 0 if this file does not lie in one. */
int find_tree(void);

/* Execute the launcher where it usually is; returns if that is not there, or has been executed. */
void execute_staged(char **arguments);

/* Undo the octal escapes of /proc/self/mountinfo in place. */
void unescape(char *text);

/* Make the tree, which is the working directory, the root directory, with /proc, /sys and /dev
 * in it and the old root below it; each failure is said, and what can be done is done. */
void enter_tree(void);

/* Run the stage, and take the machine down if it does not. Returns only if that failed. */
void guard_stage(char **arguments, char **environment, int as_pid1);

/* Begin with that while the stage is still at work, and leave it enough. `name` is our argv[0]. */
void scrub_early(char *name);

/* Overwrite free memory, for some seconds at most, and say on standard output how much of it:
 * "all BYTES", "part BYTES", or "failed: REASON". Returns the exit status. */
int scrub_memory(const char *seconds);

#endif

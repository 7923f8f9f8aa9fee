/* The launcher: what init executes. It makes the tree the root directory, starts the stage under
 * its eyes, and seals and goes down by itself if the stage dies.
 *
 * Static, so that it starts on any root: one with an older or newer glibc, with musl, or with no
 * libc at all. It is small, since it is the part of PID 1 that must not fail. */

#ifndef FINALSTAGE_LAUNCHER_H
#define FINALSTAGE_LAUNCHER_H

#define STAGE "/usr/lib/finalstage/stage"
#define OLD_ROOT "oldroot"

/* Say one line on the console; what it does not take soon is lost. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Close every file from this number on. */
void close_from(int first);

/* --- stand_in.c ------------------------------------------------------------------------------ */

/* Learn where we were executed; 0 if that cannot be seen. All below needs it. */
int find_place(void);

/* Whether the program that was executed has this name: ours, or that of what we cover. */
int is_place(const char *name);

/* Whether this machine is a container, as systemd has noted it. */
int is_container(void);

/* Go to the directory of the tree from which this file was mounted where it was executed; 0 if that
 * is not there any more. */
int find_mounted_tree(void);

/* Take away the mount by which we stand in: it would hold the root. -1 if that failed. */
int leave_place(void);

/* Execute what this file is mounted on, and leave the mount; returns if it covers nothing. */
void execute_covered(char **arguments);

/* Execute what we stand in for, and say why; returns if that failed. */
void execute_original(char **arguments, const char *why);

/* --- tree.c ---------------------------------------------------------------------------------- */

/* Go to the directory that holds the tree; 0 if this file does not lie in one. */
int find_tree(void);

/* Whether two paths lead to one directory. */
int same_directory(const char *one, const char *other);

/* Undo the octal escapes of /proc/self/mountinfo in place. */
void unescape(char *text);

/* Make the tree, which is the working directory, the root directory, with /proc, /sys and /dev
 * in it and the old root below it; each failure is said, and what can be done is done. */
void enter_tree(void);

/* Copy a directory's contents: directories, regular files and symbolic links, as a tree has; what is
 * there already stays. Closes `from`. Whether it failed; then errno says why. */
int copy_directory(int from, int to);

/* Put the tree, which is the working directory, into a tmpfs at `place`. Returns the exit status. */
int stage_into(const char *place);

/* Run the stage, and take the machine down if it does not. Returns only if that failed. */
void guard_stage(char **arguments, char **environment, int as_pid1);

/* Begin with that while the stage is still at work, and leave it enough. `name` is our argv[0]. */
void scrub_early(char *name);

/* Overwrite free memory, for some seconds at most, and say on standard output how much of it:
 * "all BYTES", "part BYTES", or "failed: REASON". Returns the exit status. */
int scrub_memory(const char *seconds);

/* Run the programs in the old root that systemd-shutdown would have run, for some seconds at most,
 * and none of them twice. Says on standard output, a line each, what did not go well, and in the
 * end "ran NUMBER". Returns the exit status. */
int run_hooks(char *verb, const char *seconds);

/* The same for the administrator's own, which the tree carries for a moment: one after the other,
 * `each` for some seconds at most. Their environment is ours. */
int run_moment(const char *moment, char *verb, const char *seconds, const char *each);

/* --- wipe.c and trigger.c -------------------------------------------------------------------- */

/* Wipe the keys that the words say, at once or when that is triggered, and switch the machine off if
 * they say so. The working directory is the tree, if there is one. Returns the exit status. */
int wipe_keys(char **words, char **environment, int has_tree);

/* Wait for SIGUSR1, or for a file to be made, if it is not NULL. -1 if that has happened; else the
 * exit status: somebody has ended us, or it makes no sense to wait, which was said. */
int wait_for_trigger(const char *file);

#endif

/* The options that the guardian heeds by itself, as the stage reads them: finalstage/handover. What
 * makes no sense is left out, without a word: the stage names it. */

#define _GNU_SOURCE
#include "guardian.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIGURATION "/etc/finalstage.conf"
#define COMMAND_LINE "/proc/cmdline"
#define PREFIX "finalstage."
#define BLANKS " \t"
#define DEFAULT_BUDGET (90 * SECOND)
#define SHORTEST_BUDGET (10 * SECOND)
#define LONGEST_BUDGET (24 * 3600 * SECOND)

/* Milliseconds of a unit as systemd writes it, 0 if it is none: UNITS in handover/systemd.py. */
static double unit_named(const char *name, size_t length)
{
    static const struct {
        const char *names;
        double milliseconds;
    } units[] = {
        {" us usec ", 1e-3},
        {" ms msec ", 1},
        {" s sec second seconds ", SECOND},
        {" m min minute minutes ", 60 * SECOND},
        {" h hr hour hours ", 3600 * SECOND},
    };
    char word[16];

    if (!length)
        return SECOND;
    snprintf(word, sizeof word, " %.*s ", (int)(length < 10 ? length : 10), name);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strstr(units[i].names, word))
            return units[i].milliseconds;
    return 0;
}

/* Milliseconds of a time span; 0 if it is none, or one that no budget may have. */
static long budget_in(const char *text)
{
    double total = 0;

    for (text += strspn(text, BLANKS); *text; text += strspn(text, BLANKS)) {
        size_t digits = strspn(text, "0123456789."), letters = 0;
        char *end;
        double number = strtod(text, &end), unit;

        if (!digits || end != text + digits)
            return 0;
        end += strspn(end, BLANKS);
        while (isalpha((unsigned char)end[letters]))
            letters++;
        unit = unit_named(end, letters);
        if (!unit)
            return 0;
        total += number * unit;
        text = end + letters;
    }
    return total >= SHORTEST_BUDGET && total <= LONGEST_BUDGET ? (long)total : 0;
}

static const char *value_of(const char *setting, const char *name)
{
    size_t length = strlen(name);

    return !strncmp(setting, name, length) && setting[length] == '=' ? setting + length + 1 : NULL;
}

static void hear(struct settings *settings, const char *setting)
{
    const char *budget = value_of(setting, "timeout");
    const char *watchdog = value_of(setting, "watchdog");

    if (!budget)
        budget = value_of(setting, "budget");
    if (budget && budget_in(budget))
        settings->budget = budget_in(budget);
    if (!strcmp(setting, "watchdog") || (watchdog && !strcmp(watchdog, "on")))
        settings->watchdog = 1;
    if (watchdog && !strcmp(watchdog, "off"))
        settings->watchdog = 0;
}

/* Take in what stands in a file between separators, and begins with a prefix. */
static void hear_file(struct settings *settings, const char *path, const char *separators,
                      const char *prefix)
{
    FILE *file = fopen(path, "re");
    char *line = NULL, *rest = NULL;
    size_t size = 0;

    while (file && getline(&line, &size, file) > 0)
        for (char *word = strtok_r(line, separators, &rest); word;
             word = strtok_r(NULL, separators, &rest))
            if (!strncmp(word, prefix, strlen(prefix)))
                hear(settings, word + strlen(prefix));
    if (file)
        fclose(file);
    free(line);
}

struct settings read_settings(char **arguments)
{
    struct settings settings = {.budget = DEFAULT_BUDGET, .watchdog = 1};

    hear_file(&settings, CONFIGURATION, "\n", "");
    hear_file(&settings, COMMAND_LINE, BLANKS "\n", PREFIX);
    for (; *arguments; arguments++)
        if (!strncmp(*arguments, "--", 2) && strncmp(*arguments, "--timeout", 9))
            hear(&settings, *arguments + 2); /* that one is systemd's, and for processes */
    return settings;
}

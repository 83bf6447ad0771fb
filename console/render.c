/*-------------------------------------------------------------------------
 *
 * render.c
 *	  Pages, for readers with script and without.
 *
 * A page holds what its screen shows, as tables and lists of terms, so that it can
 * be read without script.  The script puts its own view in the place of <main>.
 * Every text from the database goes through text_html.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "options.h"
#include "render.h"

/* The screens that are one click away. */
static const struct
{
	const char *path;
	const char *title;
}			places[] = {{"/runs", "Runs"}, {"/definitions", "Definitions"}, {"/health", "Health"}};

/* Columns of the lists that have too many for a page; all of others are shown. */
static const struct
{
	const char *list;
	const char *columns;
}			lists[] = {
	{"runs", "id name status progress rows_scanned rows_total rows_per_second eta wait_reason throttled_by errors workers target started_by started_at finished_at"},
	{"batches", "number part key_range status skipped attempt rows_scanned rows_affected started_at finished_at duration wal_bytes error client"},
	{"errors", "number part key sqlstate message detail attempts first_at last_at resolved_at"},
	{"events", "at kind previous_status status number role sqlstate reason"},
	{"schedules", "definition target cron role active"},
	{"definitions", "name target owner description scope settings updated_at"},
	{"workers", "worker pid state state_since batch attempt batches rows_scanned rows_affected"},
	{"clients", "client role application_name client_addr batches_out rows_scanned lease_until"},
	{"settings", "name value default min max source description"}
};

/* Members that readers without script can do without. */
static const char *const hidden[] = {"may", "series", "more", "searched", "now_per_second", "in_hand", NULL};

static const char *
columns_of(const char *list)
{
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
	{
		if (strcmp(lists[i].list, list) == 0)
			return lists[i].columns;
	}
	return NULL;
}

/* A value that is not a text, as it would be written. */
static void
add_json(Text *out, const Json *value)
{
	switch (value->kind)
	{
		case JSON_NULL:
			break;
		case JSON_TRUE:
		case JSON_FALSE:
			text_add(out, value->kind == JSON_TRUE ? "yes" : "no");
			break;
		case JSON_NUMBER:
		case JSON_STRING:
			text_html(out, value->text);
			break;
		default:
			for (const Json *child = value->child; child != NULL; child = child->next)
			{
				if (child->name != NULL)
				{
					text_html(out, child->name);
					text_add(out, ": ");
				}
				add_json(out, child);
				if (child->next != NULL)
					text_add(out, ", ");
			}
	}
}

/* "rows_scanned" as "rows scanned". */
static void
add_title(Text *out, const char *name, size_t length)
{
	for (size_t i = 0; i < length; i++)
	{
		char		c[2] = {name[i] == '_' ? ' ' : name[i], '\0'};

		text_html(out, c);
	}
}

/* One cell; ids of runs and names of definitions lead to their pages. */
static void
add_cell(Text *out, const char *list, const char *column, const Json *value)
{
	text_add(out, "<td>");
	if (value != NULL)
	{
		const char *page = strcmp(list, "runs") == 0 && strcmp(column, "id") == 0 ? "/runs/" :
			(strcmp(list, "runs") == 0 || strcmp(list, "definitions") == 0) && strcmp(column, "name") == 0 ?
			"/definitions/" : NULL;

		if (page != NULL && value->text != NULL)
		{
			text_format(out, "<a href=\"%s", page);
			text_url(out, value->text);
			text_add(out, "\">");
		}
		add_json(out, value);
		if (page != NULL && value->text != NULL)
			text_add(out, "</a>");
	}
	text_add(out, "</td>");
}

/* Calls for each of the names that blanks separate. */
static const char *
next_word(const char *words, char word[64])
{
	size_t		n;

	words += strspn(words, " ");
	n = strcspn(words, " ");
	if (n == 0)
		return NULL;
	snprintf(word, 64, "%.*s", (int) n, words);
	return words + n;
}

/* An array of objects as a table, of others as lines. */
static void
add_table(Text *out, const Json *array)
{
	const char *columns = columns_of(array->name);
	const char *at;
	char		word[64];

	if (array->child == NULL)
	{
		text_add(out, "<p>None.</p>\n");
		return;
	}
	if (array->child->kind != JSON_OBJECT)
	{
		text_add(out, "<pre>");
		for (const Json *line = array->child; line != NULL; line = line->next)
		{
			add_json(out, line);
			text_add(out, "\n");
		}
		text_add(out, "</pre>\n");
		return;
	}
	text_add(out, "<div class=\"scroll\"><table><thead><tr>");
	for (at = columns; at != NULL && (at = next_word(at, word)) != NULL;)
	{
		text_add(out, "<th scope=\"col\">");
		add_title(out, word, strlen(word));
		text_add(out, "</th>");
	}
	for (const Json *member = columns ? NULL : array->child->child; member != NULL; member = member->next)
	{
		text_add(out, "<th scope=\"col\">");
		add_title(out, member->name, strlen(member->name));
		text_add(out, "</th>");
	}
	text_add(out, "</tr></thead><tbody>\n");
	for (const Json *row = array->child; row != NULL; row = row->next)
	{
		text_add(out, "<tr>");
		for (at = columns; at != NULL && (at = next_word(at, word)) != NULL;)
			add_cell(out, array->name, word, json_member(row, word));
		for (const Json *member = columns ? NULL : row->child; member != NULL; member = member->next)
			add_cell(out, array->name, member->name, member);
		text_add(out, "</tr>\n");
	}
	text_add(out, "</tbody></table></div>\n");
}

/* An object as a list of terms; what is null is left out. */
static void
add_terms(Text *out, const Json *object)
{
	text_add(out, "<dl>");
	for (const Json *member = object->child; member != NULL; member = member->next)
	{
		if (member->kind == JSON_NULL)
			continue;
		text_add(out, "<dt>");
		add_title(out, member->name, strlen(member->name));
		text_add(out, "</dt><dd>");
		add_json(out, member);
		text_add(out, "</dd>");
	}
	text_add(out, "</dl>\n");
}

static bool
is_hidden(const char *name)
{
	for (int i = 0; hidden[i] != NULL; i++)
	{
		if (strcmp(hidden[i], name) == 0)
			return true;
	}
	return false;
}

/* The buttons of a run, as forms that work without script. */
static void
add_buttons(Request *request, const Json *root)
{
	Text	   *out = &request->reply;
	const char *id = json_text(json_member(root, "run"), "id");
	const Json *may = json_member(root, "may");

	for (const Json *action = may && id ? may->child : NULL; action != NULL; action = action->next)
	{
		if (action->kind != JSON_STRING || strcmp(action->name, "delete") == 0)
			continue;
		text_format(out, "<form method=\"post\" action=\"/api/do/%s\"><input type=\"hidden\" name=\"csrf\" value=\"%s\">"
					"<input type=\"hidden\" name=\"id\" value=\"%s\"><input type=\"hidden\" name=\"back\" value=\"/runs/%s\">"
					"<p><button>", action->name, request->csrf, id, id);
		add_title(out, action->name, strlen(action->name));
		text_add(out, "</button> ");
		text_html(out, action->text);
		text_add(out, "</p></form>\n");
	}
}

/* Where one can go from a run. */
static void
add_links(Text *out, const Json *root)
{
	const char *id = json_text(json_member(root, "run"), "id");

	if (id != NULL)
		text_format(out, "<p><a href=\"/runs/%s\">Run %s</a> <a href=\"/runs/%s/batches\">Batches</a> "
					"<a href=\"/runs/%s/errors\">Errors</a> <a href=\"/runs/%s/events\">Events</a></p>\n", id, id, id, id, id);
}

/* Everything up to the content of <main>. */
static void
begin_page(Request *request, const char *screen, const char *title)
{
	Text	   *out = &request->reply;

	text_add(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
			 "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
	text_format(out, "<title>%s - backfill</title>\n", title);
	if (request->csrf[0] != '\0')
		text_format(out, "<meta name=\"csrf\" content=\"%s\">\n", request->csrf);
	text_add(out, "<link rel=\"icon\" href=\"/assets/favicon.svg\">\n<link rel=\"stylesheet\" href=\"/assets/dygraph.min.css\">\n"
			 "<link rel=\"stylesheet\" href=\"/assets/style.css\">\n");
	if (screen != NULL)
		text_add(out, "<script src=\"/assets/dygraph.min.js\" defer></script>\n"
				 "<script src=\"/assets/app.js\" type=\"module\"></script>\n");
	text_add(out, "</head>\n<body data-role=\"");
	text_html(out, request->role);
	text_format(out, "\" data-read-only=\"%s\" data-version=\"%s\">\n", options.read_only ? "true" : "false", CONSOLE_VERSION);
	text_add(out, "<a class=\"skip\" href=\"#main\">To the content</a>\n<header class=\"top\"><a class=\"brand\" href=\"/runs\">backfill</a>\n"
			 "<nav aria-label=\"Screens\">");
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
	{
		bool		here = request->path != NULL && strncmp(request->path, places[i].path, strlen(places[i].path)) == 0;

		text_format(out, "<a href=\"%s\"%s>%s</a>", places[i].path, here ? " aria-current=\"page\"" : "", places[i].title);
	}
	text_add(out, "</nav>\n<div class=\"who\">");
	if (request->role != NULL && request->csrf[0] != '\0')
	{
		text_add(out, "<span class=\"role\">");
		text_html(out, request->role);
		text_format(out, "</span> <form method=\"post\" action=\"/logout\"><input type=\"hidden\" name=\"csrf\" value=\"%s\">"
					"<button>Log out</button></form>", request->csrf);
	}
	text_add(out, "</div>");
	text_add(out, "</header>\n<main id=\"main\" tabindex=\"-1\"");
	if (screen != NULL)
	{
		text_format(out, " data-screen=\"%s\" data-path=\"", screen);
		text_html(out, request->path);
		if (*request->query != '\0')
			text_add(out, "?");
		text_html(out, request->query);
		text_add(out, "\"");
	}
	text_add(out, ">\n");
}

static void
end_page(Request *request)
{
	text_add(&request->reply, "</main>\n</body>\n</html>\n");
}

/* What the screen is called, and of which run, or which definition, it is. */
static void
add_heading(Text *out, const char *screen, const char *title, const Json *root)
{
	const Json *run = json_member(root, "run");
	const char *id = json_text(run, "id");
	const char *name = json_text(id ? run : json_member(root, "definition"), "name");

	text_format(out, "<h1>%s", title);
	if (id != NULL)
		text_format(out, "%s %s", strcmp(screen, "run") == 0 ? "" : " of run", id);
	if (name != NULL)
	{
		text_add(out, id ? " of " : " ");
		text_html(out, name);
	}
	text_add(out, "</h1>\n");
}

/* The page of a screen, with what it shows. */
void
render_value(Request *request, const char *json)
{
	Text	   *out = &request->reply;
	Json	   *root = json_parse(json);
	const char *name = request->screen->name;
	char		title[64];

	snprintf(title, sizeof(title), "%c%s", name[0] - 'a' + 'A', name + 1);
	begin_page(request, name, title);
	add_heading(out, name, title, root);
	add_links(out, root);
	if (strcmp(name, "run") == 0)
		add_buttons(request, root);
	for (const Json *member = root ? root->child : NULL; member != NULL; member = member->next)
	{
		if (is_hidden(member->name))
			continue;
		if (member->kind == JSON_ARRAY || member->kind == JSON_OBJECT)
		{
			text_add(out, "<section><h2>");
			add_title(out, member->name, strlen(member->name));
			text_add(out, "</h2>\n");
			if (member->kind == JSON_ARRAY)
				add_table(out, member);
			else
				add_terms(out, member);
			text_add(out, "</section>\n");
		}
		else if (member->kind != JSON_NULL)
		{
			text_add(out, "<p>");
			add_title(out, member->name, strlen(member->name));
			text_add(out, ": ");
			add_json(out, member);
			text_add(out, "</p>\n");
		}
	}
	end_page(request);
	json_free(root);
}

/* A page that says what went wrong; the error is a JSON object. */
void
render_error(Request *request, int status, const char *error)
{
	Text	   *out = &request->reply;
	Json	   *root = json_parse(error);
	const char *parts[] = {"detail", "hint"};

	begin_page(request, NULL, "Error");
	text_format(out, "<h1>%d</h1>\n<p role=\"alert\">", status);
	text_html(out, json_text(root, "message"));
	text_add(out, "</p>\n");
	for (int i = 0; i < 2; i++)
	{
		if (json_text(root, parts[i]) == NULL)
			continue;
		text_add(out, "<p>");
		text_html(out, json_text(root, parts[i]));
		text_add(out, "</p>\n");
	}
	if (json_text(root, "since") != NULL)
	{
		text_add(out, "<p>It answered last at ");
		text_html(out, json_text(root, "since"));
		text_add(out, ".</p>\n");
	}
	if (request_comes_again(request, status))
		text_format(out, "<p>This page is read again every %d seconds.</p>\n", REQUEST_AGAIN);
	end_page(request);
	json_free(root);
}

/* The form in which a visitor says who it is. */
void
render_login(Request *request, const char *token, const char *message)
{
	Text	   *out = &request->reply;

	begin_page(request, NULL, "Log in");
	text_format(out, "<form class=\"login\" method=\"post\" action=\"/login\">\n<h1>Log in</h1>\n"
				"<input type=\"hidden\" name=\"csrf\" value=\"%s\">\n", token);
	if (message != NULL)
	{
		text_add(out, "<p class=\"error\" role=\"alert\">");
		text_html(out, message);
		text_add(out, "</p>\n");
	}
	text_add(out, "<label for=\"user\">PostgreSQL role</label>\n<input id=\"user\" name=\"user\" autocomplete=\"username\" "
			 "autocapitalize=\"none\" maxlength=\"63\" required autofocus>\n"
			 "<label for=\"password\">Password</label>\n<input id=\"password\" name=\"password\" type=\"password\" "
			 "autocomplete=\"current-password\" required>\n<button>Log in</button>\n</form>\n");
	end_page(request);
}

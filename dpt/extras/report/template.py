"""Jinja2 template of the report, with inline styles and no external resources."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2733; margin: 0 auto; max-width: 1200px;
  padding: 1.5rem; }
h1 { margin: 0; } h2 { margin: 2.2rem 0 .6rem; border-bottom: 1px solid #d5dde5; }
h3 { margin: 1.2rem 0 .3rem; }
nav a { margin-right: 1rem; } a { color: #24639c; }
table { border-collapse: collapse; } th, td { padding: .2rem .8rem; text-align: right; }
th { border-bottom: 2px solid #b8c4d0; } th:first-child, td:first-child { text-align: left; }
tr:nth-child(even) td { background: #f4f7fa; } tr.mean td { border-top: 2px solid #b8c4d0; font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; } dt { color: #5a6b7b; }
dd { margin: 0; }
dd, pre { overflow-wrap: anywhere; }
pre { background: #f4f7fa; padding: 1rem; overflow-x: auto; font-size: 13px; }
img { max-width: 100%; height: auto; display: block; } figure { margin: 0 0 1.2rem; }
figcaption { color: #5a6b7b; } .cards { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; }
.card { background: #f4f7fa; border-radius: 6px; padding: .5rem 1rem; }
.card b { display: block; font-size: 1.5rem; }
.side { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; margin-bottom: 1.5rem; }
.side > * { flex: 1 1 420px; min-width: 0; }
.missing { color: #8a5a00; background: #fff6e0; padding: .6rem 1rem; border-radius: 6px; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<nav>{% for part in ('training', 'classes', 'images', 'validation', 'config') -%}
<a href="#{{ part }}">{{ 'depth' if depth and part == 'classes' else part }}</a>{% endfor %}</nav>
<div class="cards">{% for name, value in cards %}<div class="card">
<b>{{ value }}</b>{{ name }}</div>{% endfor %}</div>
{% if facts %}<dl>{% for name, value in facts %}<dt>{{ name }}</dt>
<dd>{{ value }}</dd>{% endfor %}</dl>{% endif %}

<h2 id="training">Training</h2>
<img alt="curves of loss, learning rate, score and speed" src="{{ curves }}">

<h2 id="classes">{{ 'Depth' if depth else 'Classes' }}</h2>
{% if classes %}
<p>{{ scored }} images, {{ scores_file }}</p>
<div class="side"><table><thead><tr><th>class</th><th>pixels %</th><th>IoU</th><th>Acc</th></tr></thead>
<tbody>
{% for row in classes %}<tr{% if loop.last %} class="mean"{% endif %}><td>{{ row[0] }}</td>
{%- for value in row[1:] %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table>
<table><thead><tr><th>ground truth</th><th>predicted as</th><th>% of class</th><th>% of errors</th></tr>
</thead>
<tbody>
{% for row in confusions %}<tr><td>{{ row[0] }}</td><td>{{ row[1] }}</td><td>{{ '%.1f' % row[2] }}</td>
<td>{{ '%.1f' % row[3] }}</td></tr>{% endfor %}</tbody></table></div>
<div class="side"><img alt="confusion matrix" src="{{ matrix }}">
<img alt="IoU of each class" src="{{ bars }}"></div>
{% elif depth %}
<p>{{ scored }} images, {{ scores_file }}</p>
<table><thead><tr><th>score</th><th>mean over images</th></tr></thead>
<tbody>
{% for name, value in depth %}<tr><td>{{ name }}</td><td>{{ value }}</td></tr>
{% endfor %}</tbody></table>
{% else %}<p class="missing">{{ no_scores }}</p>{% endif %}

<h2 id="images">Worst and best images</h2>
{% if no_pictures %}<p class="missing">{{ no_pictures }}</p>{% endif %}
{% for heading, rows in images %}<h3>{{ heading }}</h3>
{% for row in rows %}<figure>
<figcaption>{{ row.name }}: {{ row.figures }}</figcaption>
{% if row.picture %}<img alt="{{ row.name }}" src="{{ row.picture }}">{% endif %}</figure>
{% endfor %}{% endfor %}

<h2 id="validation">Validation images over time</h2>
{% for name, rows in followed %}<h3>{{ name }}</h3>
{% for step, picture in rows %}<figure><figcaption>iteration {{ step }}</figcaption>
<img alt="{{ name }} at iteration {{ step }}" src="{{ picture }}"></figure>
{% endfor %}{% else %}
<p class="missing">No pictures: set default_hooks.visualization.draw=True to draw them.</p>{% endfor %}

<h2 id="config">Config</h2>
{% if config %}<details><summary>{{ config_file }}</summary><pre>{{ config }}</pre></details>
{% else %}<p class="missing">The work directory contains no config.</p>{% endif %}
</body>
</html>
"""

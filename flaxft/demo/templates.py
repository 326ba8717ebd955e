"""The words and sentence templates of the demo corpus. Every name of a person, organisation, place and product is invented.

In a template, tokens stand apart by spaces; `{slot}` is filled from `ENTITIES` or `FILLERS`, `[a|b c]` takes one of the choices, and a leading `~`
writes the whole sentence in lower case.
"""

from __future__ import annotations


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# A family, a town and a firm may all bear one of these names: only the sentence tells which.
SHARED = words("""
    Averin Tolvan Marrick Delmora Hasker Brenlow Castrel Orvane Penderrow Rovenell Kestrin Lindaro Mosswick Norvale Quarley Sedgeby Thorvale
    Umbrell Velland Wexcombe Yardlow Ashmere Belquin Corvane Dunmarrow Elstrad Farrowby Glenrick Holvane Ivarro
""")

# The last eight are common words as well.
FIRST_NAMES = words("""
    Mira Joren Talia Anselm Bettina Caspian Dorothea Emeka Farida Gideon Hanne Ilse Jasper Keiko Leandro Marit Nadia Oskar Priya Quentin
    Rosalind Soren Tamsin Ulrike Viggo Wanda Ximena Yusuf Zora Aurel Bianca Cyril Delphine Edmund Freya Goran Hiroko Imran Jolene Kwame
    Linus Mabel Nils Odette Pavel Rania Stellan Thandi Ursula Vasco Hope Rose Will Mark Grace April May June
""")

SURNAMES = SHARED + words("""
    Abramek Boskovan Cartolli Drummick Eskelund Fenwarden Galtieron Hjelmark Imbrosa Jandrell Kowalent Lourdan Mbekari Nakatori Okonjare
    Petrusko Quillander Ramirsky Sandoveil Tanakuro Ulbrekt Vashenko Wintergall Xandari Yildaran Zamorek Adeyosi Brandevik Chaudrini
    Delacrux Eriksaune Fukuyori Gunnarsk Ibrahivan Johansell
""")

TOWNS = SHARED + words("""
    Aldercross Brimstead Calderholt Dravenport Eskmoor Fallowmere Gorsefield Hexmouth Inverlash Jutgard Kilbrannoch Larkspire Mirefoot
    Nettlebay Osterhavn Pellworth Quernstone Rookhampton Saltmarch Tarnwick Ullsford Vinterhamn Westerlay Yarrowgate Zellendorf Amberlough
    Bracksea Cresmont Dunhollow Elvanstow Fernhithe Greyhithe Harrowdell Islemere Kingsbarrow Lowenmark Mistelrode Northolme Oakenshire
    Plumgate
""")

FIRMS = SHARED + words("""
    Vexatron Nordalux Pivotane Quandrel Synthora Cobaltine Datavorn Evermint Fluxberry Glacient Helionix Inkwave Juniperon Kryovale Lumathon
    Mintaro Novagrain Optiluna Polymarsh Rivetone Solvanta Terrabloom Ultrafen Vantello Wavethorn Xylomar Yonderly Zincadia Agrivant
    Bluequill Cindertech Deltamoor Echovane Ferroline Gridmere Hydranova Ironpetal Jetstrand
""")

# Products: some are named after their maker, some after a common word.
GADGETS = words("""
    Kestrin Velland Orvane Ivarro Lumathon Echovane Vexatron Lantern Compass Comet Sparrow Otter Zephra Trekkon Glimmo Pixara Wrenpad Sonaro
    Kiteon Moxxa Grindello Hushpod Kettlo Nuvolet Orbiko Rollio Skimmo Voltino
""")
APPS = words("""
    Bluequill Inkwave Datavorn Harbor Drift Ember Meadow Notivo Routely Vistaro Dashlet Loopix Mapsy Cloudra Snapdell Tindra Umbraxa Wispo
    Quillo Purrfix
""")
TREATS = words("""
    Mintaro Evermint Novagrain Farrowby Belquin Breeze Thunder Jolta Flipsy Yummo Zingaro Nimbora Crumblo Fizzara Honeyra Munchello Pepperix
    Tangolo
""")

_PERSONS = tuple(f"{name} *" for name in FIRST_NAMES) + tuple(
    f"{name} {middle} *" for name, middle in zip(FIRST_NAMES, 12 * ("J.", "van", "K.", "de la", "M."), strict=False)
)
_TOWNS = ("*", "North *", "*", "Port *", "*", "New *", "* on Sea", "Upper *", "Old *", "*")

# slot -> (type, roots, patterns in which the root replaces the star)
ENTITIES = {
    "person": ("PER", SURNAMES, _PERSONS),
    "surname": ("PER", SURNAMES, ("*",)),
    "first": ("PER", FIRST_NAMES, ("*",)),
    "firm": ("ORG", FIRMS, ("*", "* & Sons", "*", "* Group", "*", "* Industries", "* Motors", "House of *", "* and Partners", "*", "* Bank")),
    "club": ("ORG", TOWNS, ("*", "* United", "* Rovers", "* City", "*", "Sporting *", "* Wanderers")),
    "school": ("ORG", TOWNS, ("* University", "* College", "* Polytechnic", "* Institute of Technology")),
    "agency": ("ORG", TOWNS, ("* City Council", "Bank of *", "* Port Authority", "* Board of Trade")),
    "town": ("LOC", TOWNS, _TOWNS),
    "nature": ("LOC", TOWNS, ("Lake *", "Mount *", "* Bay", "Cape *", "* Forest", "* Point", "Upper * Falls")),
    "gadget": ("PROD", GADGETS, ("*", "* 300", "* Pro", "*", "* Mini", "* X 2", "* Pro Max", "* Series 5 Plus")),
    "app": ("PROD", APPS, ("*", "* Online", "*", "* for Teams", "* Studio", "*")),
    "treat": ("PROD", TREATS, ("*", "* Cola", "* Gold Blend", "* Original", "* Dark Roast", "* Crisps")),
}

FILLERS = {
    "num": words("3 4 5 6 8 10 12 15 18 20 24 30 36 40 45 50 60 75 90 120 200 300"),
    "goals": words("0 1 2 3 4"),
    "age": words("18 20 24 30 36 40 45 50 60 75 90"),
    "few": words("3 4 5 6 8 10 12"),
    "year": words("1978 1984 1991 1996 2003 2008 2012 2015 2019 2021"),
    "day": words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "month": words("January February March April May June July August September October November December"),
    "time": ("six", "seven", "eight", "nine", "noon", "9.30", "7.15", "midnight"),
    "part": words("screen battery handle hinge cable brake keyboard camera"),
    "who": words("sister brother neighbour boss mother father uncle friend"),
    "subject": words("physics history law medicine music"),
}

TEMPLATES = {
    "news": (
        "{firm} [said|announced|confirmed] on {day} that it would [cut|add|move] {num} jobs in {town} .",
        "Shares of {firm} [fell|rose|jumped] {num} percent after {person} [resigned|stepped down|was named chief executive] .",
        "{person} , the [mayor|former mayor|new mayor] of {town} , [opened|visited|praised] the [bridge|library|market|harbor] on {day} .",
        "The {agency} has approved a plan to [rebuild|widen|close] the road between {town} and {town} .",
        "Heavy [rain|snow] closed schools in {town} and [flooded|blocked] the roads near {nature} .",
        "{firm} [bought|sold] {firm} for {num} million crowns .",
        "Police in {town} are looking for {person} , {age} , who was last seen near {nature} .",
        "A spokesman for {firm} [declined to comment on|had no answer to] the [report|rumours|letter] .",
        "{surname} told reporters that the talks with {firm} had [failed|gone well|only just begun] .",
        "{firm} [recalled|withdrew] {num} thousand units of the {gadget} because of a faulty {part} .",
        "The court in {town} [fined|cleared] {firm} over the [spill|fire|accident] at {nature} .",
        "{person} won the [award|prize] for a novel set in {town} [|and for a play about {surname}] .",
        "Scientists at {school} [found|described] a new kind of [moss|fish|beetle] near {nature} .",
        "Workers at {firm} went on strike on {day} over [pay|safety|longer shifts] .",
        "The strike at the {firm} plant in {town} ended after {num} days .",
        "{surname} , who [founded|left] {firm} in {year} , [was born|grew up|still lives] in {town} .",
        "{town} [will host|hosted] the [winter games|book fair|jazz festival] in {month} .",
        "The population of {town} has [doubled|fallen|grown] since {year} .",
        "{person} and {person} were elected to the {agency} [on {day}|in {month}] .",
        "The {surname} family has lived in {town} since {year} .",
        "{surname} sold her shares in {firm} and moved to {town} .",
        "{firm} will open a [factory|warehouse|office] in {town} [in {month}|next year] , the [paper|mayor] said .",
    ),
    "sports": (
        "{club} beat {club} {goals} - {goals} in {town} on {day} .",
        "{surname} scored [twice|the winning goal|three times] as {club} [beat|drew with|knocked out] {club} .",
        "{club} have signed {person} from {club} for {num} million crowns .",
        "{surname} missed the [final|race|match] with a [knee|back|shoulder] injury .",
        "The coach of {club} , {person} , was sent off after {age} minutes .",
        "After {age} minutes {surname} [headed|fired|pushed] the ball past {surname} .",
        "{club} climbed to [second|third|fifth] place with their {num} points .",
        "{num} thousand fans of {club} travelled to {town} by [bus|train|ferry] .",
        "{club} {goals} , {club} {goals}",
        "{person} won the [long|women 's|men 's] race in {town} , {few} seconds ahead of {person} .",
        "{surname} and {surname} did not train on {day} .",
        "{club} will play without {surname} until {month} .",
    ),
    "reviews": (
        "I bought the {gadget} in {month} and the {part} is already [broken|loose|worn out] .",
        "The {gadget} is [lighter|louder|slower|smaller] than the {gadget} , but it costs [less|more] .",
        "{app} keeps crashing on my [old|new] {gadget} .",
        "We switched from {app} to {app} [last year|in {month}] and never looked back .",
        "{treat} tastes [better|worse|sweeter] than {treat} , if you ask me .",
        "The [soup|coffee|fish] at our hotel in {town} was cold , and the waiter was [rude|slow] .",
        "{firm} sent me a new {gadget} within {few} days .",
        "My {who} [loves|hates] {treat} .",
        "The new version of {app} is [free|slow|full of errors] .",
        "Two stars for the {gadget} and none for {firm} .",
        "The {gadget} by {firm} [won|failed] our test .",
        "A [can|box|bag] of {treat} costs {num} crowns at the station in {town} .",
        "I asked {firm} for my money back because the {part} of my {gadget} broke .",
        "With {app} I can plan a whole week in {num} minutes .",
    ),
    "travel": (
        "The train from {town} to {town} leaves at {time} .",
        "We spent {few} days [hiking|fishing|camping] around {nature} .",
        "The view over {nature} from our room was [stunning|lovely] .",
        "Flights to {town} with {firm} start at {num} crowns .",
        "You turn left in {town} and follow the river to {town} .",
        "The [bus|train] to {nature} does not run in {month} .",
        "Our guide , {first} , was born in {town} and knew every path around {nature} .",
        "{town} is a quiet [village|port|town] {num} kilometres [north|south|east] of {town} .",
        "The best [bakery|garage] in {town} belongs to old Mrs {surname} .",
        "There is [snow|fog|ice] around {nature} until {month} .",
        "From {town} it is a walk of {num} minutes to {nature} .",
    ),
    "mail": (
        "Hi {first} , can you send the [report|invoice|slides] to {first} before {day} ?",
        "Dear Mr {surname} , thank you for your letter of {few} {month} .",
        "Best regards , {person}",
        "{first} will be in {town} until {day} .",
        "Please forward this to {first} at {firm} .",
        "I met {person} from {firm} at the [fair|conference] in {town} .",
        "Thanks , {first} !",
        "Could {first} and {first} share a car to {town} ?",
        "Mrs {surname} called again about the {gadget} she ordered in {month} .",
        "Our contract with {firm} ends in {month} .",
        "{first} , did {surname} sign the contract with {firm} ?",
        "I have installed {app} on all machines in the {town} office .",
        "Dr {surname} teaches {subject} at {school} .",
        "{person} studied {subject} at {school} before joining {firm} .",
        "Sorry , {first} , but I lost the {gadget} on the bus to {town} .",
        "Call {surname} .",
    ),
    "questions": (
        "Who is {person} ?",
        "Is there a direct [bus|train] from {town} to {nature} ?",
        "When did {firm} buy {firm} ?",
        "How much does the {gadget} cost in {town} ?",
        "Has anyone at {firm} heard from {surname} ?",
        "Where is {town} ?",
        "Where did {first} grow up ?",
        "Which is better , {app} or {app} ?",
        "Did {surname} really play for {club} ?",
        "Why does {app} need my address ?",
        "Can I study {subject} at {school} ?",
    ),
    "noisy": (
        "~anyone tried the {gadget} yet ?",
        "~lol {surname} missed again , {club} are going down",
        "~{app} is down again , cant log in since {time}",
        "~stuck in {town} again , no trains , nobody here , nothing",
        "~does {app} work on the {gadget} or not",
        "~selling my {gadget} , {num} crowns , pick up in {town}",
        "~{first} are u coming to {town} on {day} or what",
        "~{treat} is back in stores ! ! !",
        "~who else thinks {person} was robbed",
        "~need a lift from {town} to {town} on {day} , can pay",
        "~{firm} support is a joke , been on hold for {num} minutes",
        "~thx {first} !",
        "~[just|only] had a {treat} , never again",
    ),
    "plain": (
        "The meeting has been moved to {day} at {time} .",
        "Please bring your own [lunch|towel|laptop|cup] on {day} .",
        "It rained for {num} days and nobody [complained|went outside|was surprised] .",
        "My {who} broke the lantern , so we bought a new one [on {day}|in {month}] .",
        "The harbor was [quiet|empty] and a light breeze came from the [north|south|east] .",
        "Prices rose by {num} percent in {month} .",
        "Will the [shop|library|market] be open on {day} ?",
        "I hope the [parcel|letter|invoice] arrives before {day} .",
        "My {who} put a rose next to the compass and closed the [drawer|window|box] .",
        "The [team|coach] was happy with the [result|match] , but not with the [pitch|weather] .",
        "The bank by the lake closes at {time} in [winter|summer|{month}] .",
        "There is no mark on the [screen|camera|box] and the battery lasts {num} hours .",
        "~cant sleep , [too hot|too much coffee|thunder all night]",
        "~ok see u at {time}",
        "The council will vote on the new [budget|bridge|road] in {month} .",
        "A sparrow and an otter [sat|slept] on the old bridge until {time} .",
        "Stir the soup for {num} minutes , add salt and serve it with [bread|fish] .",
        "The ember of last night 's fire was still warm at {time} .",
        "The path to the [forest|lake|falls|cape] is closed until {day} , so my {who} may be late .",
        "The city has no university , but a [college|polytechnic] may open in {month} .",
        "Their sons run a small business with {few} [partners|workers] .",
        "The motors of both [trains|ferries|machines] failed on {day} .",
    ),
}

# Never in train. Their words are, in other sentences.
HELD_OUT = {
    "news": (
        "The mayor of {town} met {person} of {firm} on {day} .",
        "{person} resigned from {firm} because of a letter to the {agency} .",
        "Scientists in {town} found faulty units of the {gadget} in a warehouse near {nature} .",
        "{surname} was fined in {town} after an accident with a box of {treat} .",
    ),
    "sports": (
        "{surname} , who signed for {club} in {month} , fired {club} to third place .",
        "The fans praised {surname} after the match between {club} and {club} .",
    ),
    "reviews": (
        "The {part} of the {gadget} failed after {few} hours , and {firm} had no answer .",
        "My {who} switched to {treat} and never looked back .",
        "I plan every meeting with {app} , but it is slow .",
    ),
    "travel": (
        "Our hotel was in {town} , {num} minutes by bus from {nature} .",
        "The road to {nature} is closed , so we spent the night in {town} .",
    ),
    "mail": (
        "Dear {first} , the slides for {firm} are in the office in {town} .",
        "Hi {first} , {surname} of {firm} called about the {app} invoice .",
    ),
    "questions": (
        "Did {person} really grow up in {town} ?",
        "Is the {gadget} better than the {gadget} ?",
    ),
    "noisy": (
        "~nobody here tried {treat} yet",
        "~{person} was robbed , no joke , {club} need a new coach",
        "~need the {gadget} , who is selling in {town} ?",
    ),
    "plain": (
        "The parcel was too late , so my {who} went to the market on {day} .",
        "The bus to the lake leaves at {time} in {month} .",
    ),
}

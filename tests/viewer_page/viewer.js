document.title = "primis";
